"""The Open Inference Protocol with Triton's extensions, beside the native service on the gRPC port."""
