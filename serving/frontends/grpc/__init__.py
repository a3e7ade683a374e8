"""The native gRPC service, muxjax.v1.Inference."""
