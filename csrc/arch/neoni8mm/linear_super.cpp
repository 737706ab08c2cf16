#include "../linear_super.inl"
