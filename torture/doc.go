// Package torture holds no code: its tests run the real program under load, kill it, fill its disk, break its syncs and take its
// sinks away, and then count. Each prints what was sent, acknowledged and delivered. With MILLRACE_TORTURE in the environment, as
// `make torture` sets it, they take longer.
package torture
