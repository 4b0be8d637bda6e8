"""From a user's picture files to labelled pixels."""
