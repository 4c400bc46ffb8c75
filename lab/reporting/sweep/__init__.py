"""Many arms, each against the arm that it is declared to be compared with."""
