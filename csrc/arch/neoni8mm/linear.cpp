#include "../linear_table.inl"
