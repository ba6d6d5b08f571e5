"""Files of Credit History: their content, and the processes that write them."""
