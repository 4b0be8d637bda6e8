"""From anyone's files to labelled pixels."""
