"""What is predicted, whatever from: a label, several, numbers; how sure the scores of it are."""
