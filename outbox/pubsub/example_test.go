package pubsub_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/outbox/pubsub"
)

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	sent := make(chan string)
	done := make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- runShop(ctx, filepath.Join(dir, "messages.db"), sent) }()
	fmt.Println(<-sent)
	fmt.Println(<-sent)
	cancel()
	if err := <-done; err != nil {
		log.Fatal(err)
	}
	// Output:
	// mail for order o-1
	// mail for order o-2
}

// runShop takes two orders and sends a mail for each, until ctx ends.
func runShop(ctx context.Context, path string, sent chan<- string) error {
	box, err := outbox.Open(ctx, outbox.Options{Path: path}) // the file of this program, and of no other
	if err != nil {
		return err
	}
	defer box.Close()
	p, err := pubsub.New(ctx, box, pubsub.Config{}) // one for each outbox; all else comes from it
	if err != nil {
		return err
	}
	defer p.Close() // before the outbox

	shop, err := p.Subscriber("shop") // a consumer group, which gets every message once it is known
	if err != nil {
		return err
	}
	router := message.NewDefaultRouter(watermill.NopLogger{})
	router.AddHandler("confirm", "orders", shop, "mails", p.Publisher(), func(m *message.Message) ([]*message.Message, error) {
		mail := message.NewMessage(m.UUID+"/mail", []byte("mail for order "+string(m.Payload)))
		return []*message.Message{mail}, nil // on disk before the order is acknowledged
	})
	router.AddConsumerHandler("send", "mails", shop, func(m *message.Message) error {
		sent <- string(m.Payload)
		return nil
	})

	for _, topic := range []string{"orders", "mails"} { // from here on the group is owed what is published
		if err := shop.SubscribeInitialize(topic); err != nil {
			return err
		}
	}
	order1, order2 := message.NewMessage("1", []byte("o-1")), message.NewMessage("2", []byte("o-2"))
	if err := p.Publisher().Publish("orders", order1, order2); err != nil { // nil: both survive a crash
		return err
	}
	return router.Run(ctx)
}
