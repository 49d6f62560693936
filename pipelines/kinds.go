package pipelines

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	durationForm  = regexp.MustCompile(`^(?:[0-9]+(?:\.[0-9]+)?(?:d|h|ms|m|s|us|µs|ns))+$`)
	durationPart  = regexp.MustCompile(`([0-9]+(?:\.[0-9]+)?)(d|h|ms|m|s|us|µs|ns)`)
	frequencyForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)/(s|m|h|d)$`)
	sizeForm      = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$`)
)

var errForm = errors.New("not of that form")

// parseDuration reads durations such as 90s, 1h30m and 7d. A day is 24 hours.
func parseDuration(text string) (time.Duration, error) {
	if !durationForm.MatchString(text) {
		return 0, errForm
	}
	var sum time.Duration
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		number, unit := part[1], part[2]
		if unit == "d" {
			days, err := strconv.ParseFloat(number, 64)
			if err != nil || days*24 > float64(math.MaxInt64)/float64(time.Hour) {
				return 0, errForm
			}
			sum += time.Duration(days * 24 * float64(time.Hour))
		} else {
			d, err := time.ParseDuration(number + unit)
			if err != nil {
				return 0, errForm
			}
			sum += d
		}
		if sum < 0 {
			return 0, errForm
		}
	}
	return sum, nil
}

// ParseDuration and ParseFrequency read what a key of their kind takes, for flags and requests.
func ParseDuration(text string) (time.Duration, error) { return parseDuration(text) }

// ParseFrequency is explained at ParseDuration.
func ParseFrequency(text string) (Frequency, error) { return parseFrequency(text) }

// formatDuration writes a duration as a user would: 72h, 1h30m, 90s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// mostEvents is the highest rate: one event in a nanosecond.
const mostEvents = 1e9

// parseFrequency reads rates such as 100/s and 10/m. None at all is none of them.
func parseFrequency(text string) (Frequency, error) {
	m := frequencyForm.FindStringSubmatch(text)
	if m == nil {
		return Frequency{}, errForm
	}
	n, err := strconv.ParseFloat(m[1], 64)
	per, _ := parseDuration("1" + m[2])
	if err != nil || n/per.Seconds() > mostEvents || n/per.Hours() < 1.0/(24*3650) {
		return Frequency{}, errForm
	}
	return Frequency{n, per}, nil
}

var units = map[string]float64{"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

// parseSize reads sizes such as 10MiB and 2GB; a number without a unit is bytes.
func parseSize(text string) (int64, error) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, errForm
	}
	if whole, err := strconv.ParseInt(m[1], 10, 64); err == nil && whole <= math.MaxInt64/int64(units[m[2]]) {
		return whole * int64(units[m[2]]), nil
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil || m[2] == "" || n*units[m[2]] >= math.MaxInt64 {
		return 0, errForm
	}
	return int64(n * units[m[2]]), nil
}

// formatSize writes a size in the largest binary unit that divides it.
func formatSize(n int64) string {
	for _, u := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if unit := int64(units[u]); n >= unit && n%unit == 0 {
			return fmt.Sprintf("%d%s", n/unit, u)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// measure turns text of a kind that has an order into a number that can be compared with its bounds. Sizes and counts beyond
// 2^53 lose digits, which no bound is near to.
func measure(kind valueKind, text string) (float64, error) {
	switch kind {
	case durationKind:
		d, err := parseDuration(text)
		return float64(d), err
	case sizeKind:
		n, err := parseSize(text)
		return float64(n), err
	case intKind:
		if resolve(text) != intTag {
			return 0, errForm
		}
		n, err := parseInt(text)
		return float64(n), err
	case floatKind:
		if t := resolve(text); t != floatTag && t != intTag {
			return 0, errForm
		}
		if t := resolve(text); t == intTag {
			n, err := parseInt(text)
			return float64(n), err
		}
		return strconv.ParseFloat(text, 64)
	}
	return 0, errForm
}

// outside says in words what is wrong with a value beyond the bounds of its field; nothing when it is within.
func (f *field) outside(text string) string {
	value, err := measure(f.shape.kind, text)
	if err != nil {
		return ""
	}
	low, lowErr := measure(f.shape.kind, f.min)
	high, highErr := measure(f.shape.kind, f.max)
	if (lowErr != nil || value >= low) && (highErr != nil || value <= high) {
		return ""
	}
	switch {
	case lowErr == nil && highErr == nil:
		return fmt.Sprintf("expected %s to %s", f.min, f.max)
	case lowErr == nil:
		return "expected at least " + f.min
	}
	return "expected at most " + f.max
}
