"""One thing at a time: each lesson runs alone and shows one habit of gRPC."""
