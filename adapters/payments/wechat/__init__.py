"""WeChat Pay v3: transport, verification, notifications and the payment channel of the direct merchant."""
