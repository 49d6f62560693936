package codec

import (
	"fmt"

	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"github.com/millrace-run/millrace/event"
)

// ToSDK converts e to the type of the CloudEvents SDK, for code that speaks it. The SDK parses times and URIs, so their text may
// come out in another form; it shares the data with e. An attribute that the SDK cannot hold is an error, an *AttributeError.
func ToSDK(e *event.Event) (sdk.Event, error) {
	c := sdk.EventContextV1{ID: e.ID, Type: e.Type}
	source := types.ParseURIRef(e.Source)
	if source == nil {
		return sdk.Event{}, &AttributeError{"source", "is not a URI reference"}
	}
	c.Source = *source
	if e.Subject != "" {
		c.Subject = &e.Subject
	}
	if e.DataContentType != "" {
		c.DataContentType = &e.DataContentType
	}
	if e.Time != "" {
		t, err := types.ParseTimestamp(e.Time)
		if err != nil {
			return sdk.Event{}, &AttributeError{"time", err.Error()}
		}
		c.Time = t
	}
	if e.DataSchema != "" {
		if c.DataSchema = types.ParseURI(e.DataSchema); c.DataSchema == nil {
			return sdk.Event{}, &AttributeError{"dataschema", "is not a URI"}
		}
	}
	for _, x := range e.Extensions {
		if err := setSDKExtension(&c, x); err != nil {
			return sdk.Event{}, &AttributeError{x.Name, err.Error()}
		}
	}
	binary := e.Data != nil && representationOf(e) == asBase64
	return sdk.Event{Context: &c, DataEncoded: e.Data, DataBase64: binary}, nil
}

func setSDKExtension(c *sdk.EventContextV1, x event.Extension) error {
	value, err := sdkValue(x)
	if err != nil {
		return err
	}
	return c.SetExtension(x.Name, value)
}

func sdkValue(x event.Extension) (any, error) {
	switch x.Kind {
	case event.Boolean:
		return types.ParseBool(x.Text)
	case event.Integer:
		return types.ParseInteger(x.Text)
	case event.Binary:
		return types.ParseBinary(x.Text)
	case event.URI:
		if u := types.ParseURI(x.Text); u != nil {
			return *u, nil
		}
		return nil, fmt.Errorf("%q is not a URI", x.Text)
	case event.URIReference:
		if u := types.ParseURIRef(x.Text); u != nil {
			return *u, nil
		}
		return nil, fmt.Errorf("%q is not a URI reference", x.Text)
	case event.Timestamp:
		t, err := types.ParseTime(x.Text)
		return types.Timestamp{Time: t}, err
	}
	return x.Text, nil
}

// FromSDK converts an event of the SDK, whatever version of the specification it has, and checks it with Validate. It shares
// the data.
func FromSDK(from sdk.Event) (event.Event, error) {
	if from.Context == nil {
		return event.Event{}, &AttributeError{"specversion", "is missing"}
	}
	c := from.Context.AsV1()
	e := event.Event{ID: c.ID, Source: c.Source.String(), Type: c.Type, Data: from.DataEncoded}
	if c.Subject != nil {
		e.Subject = *c.Subject
	}
	if c.DataContentType != nil {
		e.DataContentType = *c.DataContentType
	}
	if c.Time != nil {
		e.Time = c.Time.String()
	}
	if c.DataSchema != nil {
		e.DataSchema = c.DataSchema.String()
	}
	for name, value := range c.Extensions {
		text, err := types.Format(value)
		if err != nil {
			return event.Event{}, &AttributeError{name, err.Error()}
		}
		e.SetExtension(event.Extension{Name: name, Kind: kindOf(value), Text: text})
	}
	if err := Validate(&e); err != nil {
		return event.Event{}, err
	}
	return e, nil
}

func kindOf(value any) event.Kind {
	switch value.(type) {
	case bool:
		return event.Boolean
	case int32:
		return event.Integer
	case []byte:
		return event.Binary
	case types.URI, *types.URI:
		return event.URI
	case types.URIRef, *types.URIRef:
		return event.URIReference
	case types.Timestamp, *types.Timestamp:
		return event.Timestamp
	}
	return event.String
}
