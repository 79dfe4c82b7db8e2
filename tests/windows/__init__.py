"""What only Windows shows. Elsewhere, test_under_wine.py runs all of it, and the unit tests, under Wine."""
