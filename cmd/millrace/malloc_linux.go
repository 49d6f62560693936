package main

/*
#include <malloc.h>

// tune_malloc lets SQLite's threads share one heap and gives back what they no longer need. Of its own accord glibc makes a heap
// for nearly every thread, and keeps in each as much as the largest pieces that were ever freed there, which are megabytes. It
// runs before Go begins, whose first threads would each have a heap otherwise.
__attribute__((constructor)) static void tune_malloc(void) {
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 8 << 20);
	mallopt(M_TRIM_THRESHOLD, 2 << 20);
#endif
}
*/
import "C"
