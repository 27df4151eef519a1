"""What a run measures, each number as (numerator, denominator), and the alarms that watch them."""
