#include "../linear_planes.inl"
