package archivetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"
)

// Proxy is a bad network between a client and a server: a toxiproxy on loopback,
// in this process. Without toxics it passes everything on.
type Proxy struct {
	t        testing.TB
	address  string
	upstream string

	mu    sync.Mutex
	parts []toxicPart
	proxy *toxiproxy.Proxy // nil: it is down
}

// NewProxy starts a proxy to the server at upstream ("127.0.0.1:9000"). It stops
// with the test.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log to the global logger
	toxics.Register(stallToxic, new(stall))
	var err error
	for range 20 {
		// Below the ports that systems give out (Linux's begin at 32768, gVisor's at
		// 16000), so that nobody gets this one while the proxy is down.
		p := &Proxy{t: t, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(6_000))), upstream: upstream}
		if err = p.up(); err == nil {
			t.Cleanup(p.Down)
			return p
		}
	}
	t.Fatalf("no port for a proxy: %v", err)
	return nil
}

// Addr is where the proxy listens, also while it is down.
func (p *Proxy) Addr() string { return p.address }

// Down ends all connections and refuses new ones.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down()
}

// Up listens again.
func (p *Proxy) Up() { p.restart(nil) }

// Add puts toxics to work, beside those there are. Connections there are end: a
// toxic that met one half way would not always bite. A proxy that is down comes
// up.
func (p *Proxy) Add(list ...Toxic) { p.restart(list) }

// Clear takes all toxics off, ends all connections, and has the proxy up.
func (p *Proxy) Clear() {
	p.mu.Lock()
	p.parts = nil
	p.mu.Unlock()
	p.restart(nil)
}

func (p *Proxy) restart(more []Toxic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range more {
		p.parts = append(p.parts, t.parts...)
	}
	p.down()
	// Where systems give out low ports too, a connection may have this one for a while.
	err := p.up()
	for end := time.Now().Add(patience); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(end); err = p.up() {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		p.t.Errorf("proxy at %s does not come up again: %v", p.address, err)
	}
}

// patience is for how long a proxy tries to get its port back.
const patience = 15 * time.Second

func (p *Proxy) down() {
	if p.proxy != nil {
		p.proxy.Stop()
		p.proxy = nil
	}
}

// up starts a toxiproxy that has its toxics before it has connections, and never
// loses one: taking a toxic off a connection that is closing may take for ever.
func (p *Proxy) up() error {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, p.address, p.address, p.upstream)
	for i, part := range p.parts {
		part.Name = fmt.Sprintf("%s %d", part.Type, i)
		data, err := json.Marshal(part)
		if err != nil {
			return err
		}
		if _, err := proxy.Toxics.AddToxicJson(bytes.NewReader(data)); err != nil {
			return fmt.Errorf("toxic %+v: %w", part, err)
		}
	}
	if err := proxy.Start(); err != nil {
		return err
	}
	p.proxy = proxy
	return nil
}

// Direction is a way through a [Proxy].
type Direction string

// The ways.
const (
	ToServer Direction = "upstream"
	ToClient Direction = "downstream"
)

// Toxic is something that goes wrong on one way through a [Proxy].
type Toxic struct{ parts []toxicPart }

type toxicPart struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     Direction      `json:"stream"`
	Toxicity   float32        `json:"toxicity"`
	Attributes map[string]any `json:"attributes"`
}

func toxic(kind string, way Direction, attributes map[string]any) Toxic {
	return Toxic{[]toxicPart{{Type: kind, Stream: way, Toxicity: 1, Attributes: attributes}}}
}

// Latency delays everything by delay, more or less by jitter. In milliseconds.
func Latency(way Direction, delay, jitter time.Duration) Toxic {
	return toxic("latency", way, map[string]any{"latency": delay.Milliseconds(), "jitter": jitter.Milliseconds()})
}

// Bandwidth lets so many kilobytes a second pass.
func Bandwidth(way Direction, kilobytes int) Toxic {
	return toxic("bandwidth", way, map[string]any{"rate": kilobytes})
}

// Slicer passes everything on in slices of about size bytes, with a pause after
// each. In microseconds.
func Slicer(way Direction, size int, pause time.Duration) Toxic {
	return toxic("slicer", way, map[string]any{"average_size": size, "size_variation": size / 2, "delay": pause.Microseconds()})
}

// Limit closes each connection after so many bytes.
func Limit(way Direction, after int64) Toxic {
	return toxic("limit_data", way, map[string]any{"bytes": after})
}

// Reset resets each connection after so many bytes, on both sides.
func Reset(way Direction, after int64) Toxic {
	// reset_peer itself resets before a byte has passed. Where it is in the chain,
	// though, also when it never acts, whatever closes a connection resets it.
	t := toxic("reset_peer", way, map[string]any{"timeout": 0})
	t.parts[0].Toxicity = 0
	return Toxic{append(t.parts, Limit(way, after).parts...)}
}

// Stall lets so many bytes of each connection pass, then none, and leaves it open.
func Stall(way Direction, after int64) Toxic {
	return toxic(stallToxic, way, map[string]any{"bytes": after})
}

const stallToxic = "stall"

// stall is a toxic of ours.
type stall struct {
	Bytes int64 `json:"bytes"`
}

// NewState returns how many bytes of a connection have passed.
func (s *stall) NewState() any { return new(int64) }

// Pipe passes bytes on until there were enough.
func (s *stall) Pipe(stub *toxics.ToxicStub) {
	passed := stub.State.(*int64)
	for {
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-stub.Input:
			if chunk == nil && *passed < s.Bytes {
				stub.Close()
				return
			}
			if chunk == nil {
				<-stub.Interrupt // the end does not get through either
				return
			}
			chunk.Data = chunk.Data[:max(0, min(int64(len(chunk.Data)), s.Bytes-*passed))]
			*passed += int64(len(chunk.Data))
			if len(chunk.Data) > 0 {
				stub.Output <- chunk
			}
		}
	}
}
