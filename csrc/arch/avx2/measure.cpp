#include "../measure.inl"
