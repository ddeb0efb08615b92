"""WeChat Pay v3 and the mini-program host, simulated with real states, real signatures and real money
arithmetic.

Official WeChat Pay has no v3 sandbox, so this package plays both WeChat hosts, the payer's telephone and the
notification sender. One pure core (`World`) is mounted on `responses` (in-process) or served over HTTP.
"""
