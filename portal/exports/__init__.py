"""Files of Credit History: what is in them, and the processes that write them."""
