"""What the console commands do: parse, call, print."""
