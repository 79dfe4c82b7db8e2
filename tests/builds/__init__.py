"""Real front ends, real back ends, real PyO3, real cargo."""
