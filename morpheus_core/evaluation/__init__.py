"""How good results are, against what is known to be true."""
