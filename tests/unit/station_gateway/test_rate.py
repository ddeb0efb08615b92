"""The token bucket: what is there passes, the rest is told how long to wait."""

from station_gateway.server.rate import TokenBucket


def test_bucket_lets_through_what_it_holds_and_refills() -> None:
    at = [0.0]
    bucket = TokenBucket(per_s=2.0, most=4.0, clock=lambda: at[0])
    assert bucket.take(4) == 0.0
    assert bucket.take() == 0.5
    assert bucket.take(3) == 1.5
    at[0] = 0.5
    assert bucket.take() == 0.0
    assert bucket.take() == 0.5
    at[0] = 1_000.0
    assert bucket.take(4) == 0.0
    assert bucket.take() > 0


def test_more_than_the_bucket_holds_passes_when_it_is_full_and_is_paid_for_after() -> None:
    at = [0.0]
    bucket = TokenBucket(per_s=1.0, most=2.0, clock=lambda: at[0])
    assert bucket.take(5) == 0.0
    assert bucket.take() == 4.0
    at[0] = 4.0
    assert bucket.take() == 0.0
