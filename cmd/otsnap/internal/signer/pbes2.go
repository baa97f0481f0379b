package signer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/scrypt"
)

// A PKCS#8 key with a passphrase, as RFC 5958 and RFC 8018 (PBES2) have it. What
// is written is what openssl pkcs8 -topk8 writes, with more rounds; what is read
// also has the other hashes, key sizes and scrypt.

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}

	oidSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
	oidSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidSHA384 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}
	oidSHA512 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}

	oidAES128 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	oidAES192 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type encryptedKey struct {
	Algorithm algorithm
	Data      []byte
}

type algorithm struct {
	OID        asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type pbes2 struct{ Derivation, Cipher algorithm }

type pbkdf2Parameters struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

type scryptParameters struct {
	Salt      []byte
	N, R, P   int
	KeyLength int `asn1:"optional"`
}

const (
	// rounds are what OWASP advises for PBKDF2 with HMAC-SHA-256: about a quarter
	// of a second.
	rounds = 600_000
	// maxRounds and maxMemory bound what a file can make this program do.
	maxRounds = 10_000_000
	maxMemory = 1 << 30 // bytes, of scrypt, all passes together
)

var errPassphrase = errors.New("the passphrase is wrong, or the file is damaged")

// open returns the PKCS#8 key that is encrypted in der.
func open(der, passphrase []byte) ([]byte, error) {
	var k encryptedKey
	var p pbes2
	if err := parse(der, &k); err != nil {
		return nil, fmt.Errorf("not an encrypted PKCS#8 key: %w", err)
	}
	if !k.Algorithm.OID.Equal(oidPBES2) {
		return nil, fmt.Errorf("encrypted by %v; only PBES2 is read", k.Algorithm.OID)
	}
	if err := parse(k.Algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, fmt.Errorf("PBES2: %w", err)
	}
	size, err := keySize(p.Cipher.OID)
	if err != nil {
		return nil, err
	}
	var iv []byte
	if err := parse(p.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, fmt.Errorf("PBES2: %w", err)
	}
	if len(iv) != aes.BlockSize || len(k.Data) == 0 || len(k.Data)%aes.BlockSize != 0 {
		return nil, errors.New("not in whole blocks of AES")
	}
	key, err := p.Derivation.derive(passphrase, size)
	if err != nil {
		return nil, err
	}
	return decryptCBC(key, iv, k.Data)
}

// seal encrypts a PKCS#8 key, with so many rounds of PBKDF2.
func seal(der, passphrase []byte, rounds int) ([]byte, error) {
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	for _, random := range [][]byte{salt, iv} {
		if _, err := rand.Read(random); err != nil {
			return nil, err
		}
	}
	prf := pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	derivation, err := newAlgorithm(oidPBKDF2, pbkdf2Parameters{Salt: salt, Iterations: rounds, PRF: prf})
	if err != nil {
		return nil, err
	}
	aes256, err := newAlgorithm(oidAES256, iv)
	if err != nil {
		return nil, err
	}
	key, err := derivation.derive(passphrase, 32)
	if err != nil {
		return nil, err
	}
	data, err := encryptCBC(key, iv, der)
	if err != nil {
		return nil, err
	}
	scheme, err := newAlgorithm(oidPBES2, pbes2{derivation, aes256})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedKey{scheme, data})
}

func newAlgorithm(oid asn1.ObjectIdentifier, parameters any) (algorithm, error) {
	der, err := asn1.Marshal(parameters)
	return algorithm{oid, asn1.RawValue{FullBytes: der}}, err
}

// parse is [asn1.Unmarshal] of all of der.
func parse(der []byte, to any) error {
	rest, err := asn1.Unmarshal(der, to)
	if err == nil && len(rest) > 0 {
		err = errors.New("data after its end")
	}
	return err
}

func keySize(oid asn1.ObjectIdentifier) (int, error) {
	switch {
	case oid.Equal(oidAES128):
		return 16, nil
	case oid.Equal(oidAES192):
		return 24, nil
	case oid.Equal(oidAES256):
		return 32, nil
	}
	return 0, fmt.Errorf("encrypted by cipher %v; only AES in CBC mode is read", oid)
}

// derive makes the key of the cipher, of size bytes, from the passphrase.
func (a algorithm) derive(passphrase []byte, size int) ([]byte, error) {
	switch {
	case a.OID.Equal(oidPBKDF2):
		var p pbkdf2Parameters
		if err := parse(a.Parameters.FullBytes, &p); err != nil {
			return nil, fmt.Errorf("PBKDF2: %w", err)
		}
		h, err := p.hash()
		if err != nil {
			return nil, err
		}
		if p.Iterations < 1 || p.Iterations > maxRounds {
			return nil, fmt.Errorf("PBKDF2 of %d rounds; at most %d are done", p.Iterations, maxRounds)
		}
		return pbkdf2.Key(h, string(passphrase), p.Salt, p.Iterations, size)
	case a.OID.Equal(oidScrypt):
		var p scryptParameters
		if err := parse(a.Parameters.FullBytes, &p); err != nil {
			return nil, fmt.Errorf("scrypt: %w", err)
		}
		if p.N < 2 || p.R < 1 || p.P < 1 || p.R > 1<<10 || p.P > 1<<10 || p.N > maxMemory/128/p.R/p.P {
			return nil, fmt.Errorf("scrypt of N %d, r %d, p %d is over the limit of 1 GiB", p.N, p.R, p.P)
		}
		return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, size)
	}
	return nil, fmt.Errorf("key derivation by %v; only PBKDF2 and scrypt are read", a.OID)
}

func (p pbkdf2Parameters) hash() (func() hash.Hash, error) {
	switch oid := p.PRF.Algorithm; {
	case len(oid) == 0 || oid.Equal(oidSHA1): // the default of RFC 8018
		return sha1.New, nil
	case oid.Equal(oidSHA256):
		return sha256.New, nil
	case oid.Equal(oidSHA384):
		return sha512.New384, nil
	case oid.Equal(oidSHA512):
		return sha512.New, nil
	}
	return nil, fmt.Errorf("PBKDF2 with hash %v; only SHA-1 and SHA-2 are read", p.PRF.Algorithm)
}

func encryptCBC(key, iv, plain []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	data := append(make([]byte, 0, len(plain)+padding), plain...)
	for range padding {
		data = append(data, byte(padding))
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	return data, nil
}

// decryptCBC wants whole blocks.
func decryptCBC(key, iv, data []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > aes.BlockSize {
		return nil, errPassphrase
	}
	for _, b := range plain[len(plain)-padding:] {
		if int(b) != padding {
			return nil, errPassphrase
		}
	}
	plain = plain[:len(plain)-padding]
	// One wrong passphrase in 256 leaves good padding.
	var whole asn1.RawValue
	if err := parse(plain, &whole); err != nil {
		return nil, errPassphrase
	}
	return plain, nil
}
