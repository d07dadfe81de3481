"""Models that people already use: look into them (`watch`), and spare them their padding (`unpad`)."""
