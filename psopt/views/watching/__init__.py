"""`psopt watch`: how runs are getting on, from another shell."""
