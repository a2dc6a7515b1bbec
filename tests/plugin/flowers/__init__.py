"""A data set and a layer for cifar_exp."""
