//go:build !linux

package main

func tuneMalloc() {}
