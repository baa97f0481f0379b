package sample

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	sdk "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/otsnap/otsnap/snapshot/tablestore"
)

// Run is the command otsnap-sample: its arguments are the address of an instance
// and the tables to load, which for flights is the path of a Parquet file. The
// access key comes from the environment.
func Run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: otsnap-sample INSTANCE TABLE…, where a table is %s, %s, %s, %s or the path of a Parquet file of flights", Cities, Movies, Oddities, Wide)
	}
	config, err := tablestore.ParseURL(args[0])
	if err != nil {
		return err
	}
	id, secret := getenv("TABLESTORE_ACCESS_KEY_ID"), getenv("TABLESTORE_ACCESS_KEY_SECRET")
	if id == "" || secret == "" {
		return errors.New("set TABLESTORE_ACCESS_KEY_ID and TABLESTORE_ACCESS_KEY_SECRET")
	}
	client := sdk.NewClient(config.Endpoint, config.Instance, id, secret)
	for _, name := range args[1:] {
		n, err := loadNamed(ctx, client, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "loaded %s: %d rows\n", name, n)
	}
	return nil
}

func loadNamed(ctx context.Context, client *sdk.TableStoreClient, name string) (int64, error) {
	if strings.HasSuffix(name, ".parquet") {
		return LoadFlights(ctx, client, name, 0)
	}
	counts, err := Load(ctx, client, name)
	if err != nil {
		return 0, err
	}
	return counts[0], nil
}
