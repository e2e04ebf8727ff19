"""What all kernels share: compiling, threads, checks of arrays, products, interpolation, the confusion matrix."""
