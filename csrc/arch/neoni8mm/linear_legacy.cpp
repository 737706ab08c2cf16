#include "../linear_legacy.inl"
