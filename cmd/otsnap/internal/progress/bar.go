package progress

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bar draws one bar, that of the stage under way.
type bar struct {
	container *mpb.Progress
	current   *mpb.Bar
	// The library draws in goroutines of its own, which read these.
	latest  atomic.Pointer[sample]
	retries atomic.Pointer[retry]
	waiting atomic.Pointer[string]
}

func newBar(w io.Writer) *bar {
	b := &bar{container: mpb.New(mpb.WithOutput(w), mpb.WithWidth(80), mpb.WithAutoRefresh())}
	b.latest.Store(new(sample))
	return b
}

func (b *bar) begin(total int64) {
	b.drop()
	b.current = b.container.New(total, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("█").Padding("░"),
		mpb.BarWidth(24),
		mpb.BarRemoveOnComplete(), // what a stage did is told at the end of the run
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return b.latest.Load().Stage + " " })),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + b.text() })),
	)
}

func (b *bar) show(s sample) {
	b.waiting.Store(nil)
	b.latest.Store(&s)
	b.current.SetCurrent(s.Done)
}

func (b *bar) retry(r retry) { b.retries.Store(&r) }

func (b *bar) wait(what string) { b.waiting.Store(&what) }

func (b *bar) close() {
	b.drop()
	b.container.Wait()
}

// drop takes the bar away.
func (b *bar) drop() {
	if b.current == nil {
		return
	}
	b.current.Abort(true)
	b.current.Wait()
	b.current = nil
}

// text is what stands to the right of the bar.
func (b *bar) text() string {
	s := b.latest.Load()
	parts := []string{s.units()}
	if s.Rows > 0 {
		parts = append(parts, console.Count(s.Rows, "row"))
	}
	parts = append(parts, s.rate())
	if left, ok := s.left(); ok {
		parts = append(parts, console.Duration(left)+" left")
	}
	if what := b.waiting.Load(); what != nil {
		parts = append(parts, "waiting for "+*what)
	}
	if r := b.retries.Load(); r != nil {
		parts = append(parts, fmt.Sprintf("%s, last: %.60s", retriesText(r.n), r.why))
	}
	return strings.Join(nonEmpty(parts), "  ")
}

func retriesText(n int64) string {
	if n == 1 {
		return "1 retry"
	}
	return console.Number(n) + " retries"
}

func nonEmpty(parts []string) []string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return kept
}
