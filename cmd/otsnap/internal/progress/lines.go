package progress

import (
	"io"
	"log/slog"
	"time"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
)

// interval is how often lines are logged. A run shorter than that logs none.
const interval = 5 * time.Second

// lines logs.
type lines struct {
	log       *slog.Logger
	now       func() time.Time
	lastShow  time.Time
	lastRetry time.Time
}

func newLines(w io.Writer, now func() time.Time) *lines {
	return &lines{log: slog.New(slog.NewTextHandler(w, nil)), now: now, lastShow: now()}
}

func (l *lines) begin(int64) {}

func (l *lines) show(s sample) {
	if l.now().Sub(l.lastShow) < interval {
		return
	}
	l.lastShow = l.now()
	attrs := []any{}
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	add("table", s.Table)
	add("done", s.units())
	if s.Rows > 0 {
		add("rows", console.Number(s.Rows))
	}
	add("rate", s.rate())
	if left, ok := s.left(); ok {
		add("left", console.Duration(left))
	}
	l.log.Info(s.Stage, attrs...)
}

// retry logs the first of a run of retries and then one in an interval.
func (l *lines) retry(r retry) {
	if r.n > 1 && l.now().Sub(l.lastRetry) < interval {
		return
	}
	l.lastRetry = l.now()
	l.log.Warn("retry", slog.Int64("n", r.n), slog.String("why", r.why))
}

func (l *lines) wait(what string) { l.log.Info("waiting", slog.String("for", what)) }

func (l *lines) close() {}
