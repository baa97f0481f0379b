package snapshot

import "context"

func (x *restorer) generateRows(context.Context, *restored) error     { return nil }
func (x *restorer) compareGenerated(context.Context, *restored) error { return nil }
