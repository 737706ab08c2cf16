#include "../linear_minimum.inl"
