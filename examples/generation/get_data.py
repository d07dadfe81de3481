"""Write scikit-learn's scanned digits as a folder for each class with PNG files in it; needs no network.

    python examples/generation/get_data.py [FOLDER]       # default: data/digits

writes FOLDER/train (1,438 pictures of 8 x 8 pixels) and FOLDER/test (359).
"""
