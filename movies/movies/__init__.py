"""Movies: searched at November 7, remembered here, and voted on."""
