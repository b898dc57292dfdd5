"""`psopt report`: runs side by side, as a page, as pictures, or as a table."""
