"""What travels between station client and gateway server: CoAP resources and their JSON bodies."""
