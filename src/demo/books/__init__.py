"""What the commands of the day must lead to, from the rules of the contract alone. No I/O."""
