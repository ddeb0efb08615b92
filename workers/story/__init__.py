"""People around the running stack, as programs: used by the demo, the chaos run and the benches. Not the product."""
