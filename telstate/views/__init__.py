"""How to look at calls: reports and diagrams. Views format what they are given; they decide nothing."""
