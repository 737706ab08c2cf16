#include "../linear_sparse.inl"
