"""`infermux chat`: a conversation in the terminal with whatever the router serves."""
