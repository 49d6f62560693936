package pubsub

import (
	"context"
	"maps"
	"net/url"
	"slices"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/outbox"
)

// layout holds the names of the subscriptions of each topic.
type layout map[string]map[string]bool

// subscriptionName is the name of a group's subscription, which is unique in the outbox: an escaped name has no slash.
func subscriptionName(topic, group string) string {
	return url.PathEscape(topic) + "/" + url.PathEscape(group)
}

// restore is the layout that the outbox had, taken up again. Topics that nobody subscribed to follow when they are published to.
func restore(ctx context.Context, box *outbox.Outbox) (layout, error) {
	subscriptions, err := box.Status(ctx)
	if err != nil {
		return nil, err
	}
	l := layout{}
	for _, s := range subscriptions {
		if !s.Removed {
			l.topic(s.Topic)[s.Name] = true
		}
	}
	return l, box.Configure(ctx, l.layout())
}

func (l layout) topic(name string) map[string]bool {
	if l[name] == nil {
		l[name] = map[string]bool{}
	}
	return l[name]
}

// add names a topic, and a group of it unless that is empty. It says whether they were not named before.
func (l layout) add(topic, group string) bool {
	if l.has(topic, group) {
		return false
	}
	t := l.topic(topic)
	if group != "" {
		t[subscriptionName(topic, group)] = true
	}
	return true
}

func (l layout) has(topic, group string) bool {
	t, ok := l[topic]
	return ok && (group == "" || t[subscriptionName(topic, group)])
}

func (l layout) clone() layout {
	c := make(layout, len(l))
	for topic, subscriptions := range l {
		c[topic] = maps.Clone(subscriptions)
	}
	return c
}

// take makes l name what more names, which is all of l and more.
func (l layout) take(more layout) { maps.Copy(l, more) }

// layout is what the outbox takes, in the order of the names.
func (l layout) layout() event.Layout {
	var all event.Layout
	for _, topic := range slices.Sorted(maps.Keys(l)) {
		all.Topics = append(all.Topics, event.Topic{Name: topic, Subscriptions: slices.Sorted(maps.Keys(l[topic]))})
	}
	return all
}
