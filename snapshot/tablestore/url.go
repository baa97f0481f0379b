package tablestore

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// cloudSuffixes are what follows instance and region in the service's own host
// names: public, VPC and classic network, old and new.
var cloudSuffixes = []string{
	".ots.aliyuncs.com",
	".vpc.ots.aliyuncs.com",
	".ots-internal.aliyuncs.com",
	".tablestore.aliyuncs.com",
	".vpc.tablestore.aliyuncs.com",
}

// ParseURL reads the address of an instance. The service's own host names say
// instance and region:
//
//	https://demo.cn-hangzhou.ots.aliyuncs.com
//	https://demo.cn-hangzhou.vpc.tablestore.aliyuncs.com
//
// For any other host the query does, and region may be left out:
//
//	http://127.0.0.1:8087?instance=demo
//	https://gateway.example.com?instance=demo&region=cn-hangzhou
//
// Plain http to a host that is not this one needs insecure=true. An address
// with credentials in it is refused: addresses end up in logs and process
// lists. No error repeats the address.
func ParseURL(address string) (Config, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Opaque != "" {
		// The cause would quote the address, and with it what somebody put there.
		return Config{}, errors.New("tablestore: not an address like https://demo.cn-hangzhou.ots.aliyuncs.com or http://127.0.0.1:8087?instance=demo")
	}
	c, err := configOf(u)
	if err != nil {
		return Config{}, fmt.Errorf("tablestore: address of host %s: %w", u.Host, err)
	}
	return c, nil
}

func configOf(u *url.URL) (Config, error) {
	if u.User != nil {
		return Config{}, errors.New("credentials do not belong in an address")
	}
	if strings.Trim(u.Path, "/") != "" {
		return Config{}, errors.New("there is a path after the host")
	}
	if u.Fragment != "" {
		return Config{}, errors.New("there is a fragment after the host")
	}
	query, err := queryOf(u)
	if err != nil {
		return Config{}, err
	}
	c := Config{Endpoint: u.Scheme + "://" + u.Host}
	if v, ok := query["insecure"]; ok {
		if c.Insecure, err = strconv.ParseBool(v); err != nil {
			return Config{}, errors.New("insecure is neither true nor false")
		}
	}
	if err := checkScheme(u, c.Insecure); err != nil {
		return Config{}, err
	}
	c.Instance, c.Region = splitHost(strings.ToLower(u.Hostname()))
	if err := agree("instance", &c.Instance, query); err != nil {
		return Config{}, err
	}
	if err := agree("region", &c.Region, query); err != nil {
		return Config{}, err
	}
	if c.Instance == "" {
		return Config{}, errors.New("the host does not name an instance; add ?instance=NAME")
	}
	return c, nil
}

func queryOf(u *url.URL) (map[string]string, error) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("what follows the question mark is malformed")
	}
	query := make(map[string]string, len(values))
	for name, v := range values {
		switch {
		case name != "instance" && name != "region" && name != "insecure":
			return nil, errors.New("only instance, region and insecure may follow the question mark; credentials do not belong in an address")
		case len(v) != 1 || v[0] == "":
			return nil, fmt.Errorf("%s is given without a value or more than once", name)
		}
		query[name] = v[0]
	}
	return query, nil
}

// agree takes a value from the query unless the host name says it already.
func agree(name string, value *string, query map[string]string) error {
	asked, ok := query[name]
	if ok && *value != "" && *value != asked {
		return fmt.Errorf("the host says %s %s, the query says another", name, *value)
	}
	if ok {
		*value = asked
	}
	return nil
}

// splitHost returns instance and region of one of the service's host names.
func splitHost(host string) (instance, region string) {
	for _, suffix := range cloudSuffixes {
		labels := strings.Split(strings.TrimSuffix(host, suffix), ".")
		if strings.HasSuffix(host, suffix) && len(labels) == 2 && labels[0] != "" && labels[1] != "" {
			return labels[0], labels[1]
		}
	}
	return "", ""
}
