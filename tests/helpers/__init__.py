"""What several test modules share: made inputs, small models, commands and their words."""
