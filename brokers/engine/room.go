package engine

// Room is how the bounds of an engine are used. Over a broker events and bytes are 0, because the broker has them.
type Room struct {
	Bytes, MaxBytes   int64 // of events that not every subscription has settled, dead letters apart
	Events, MaxEvents int
	Forgotten         int64 // dead letters that were dropped because there were too many
}

// Room returns how much the engine holds now.
func (e *Engine) Room() Room {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Room{
		Bytes: e.flight.bytes, MaxBytes: e.options.MaxBytes, Events: e.flight.events, MaxEvents: e.options.MaxEvents, Forgotten: e.forgotten,
	}
}

// Held is what an engine in memory has of a topic, and what is gone when it is closed.
type Held struct {
	Events int // that not every subscription has settled, each once
	Dead   int // dead letters
}

// Held returns that of each topic which holds anything. An event that some subscription has not settled and another one has as a
// dead letter is in both numbers.
func (e *Engine) Held() map[string]Held {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[string]Held{}
	for name, t := range e.topics {
		if n := len(t.held); n > 0 {
			all[name] = Held{Events: n}
		}
	}
	for _, r := range e.cemetery.rows {
		h := all[r.sub.topic.name]
		h.Dead++
		all[r.sub.topic.name] = h
	}
	return all
}
