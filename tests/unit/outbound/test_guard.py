"""Where a webhook may not go: addresses by their block, URLs by their spelling."""

import ipaddress
import random
import socket
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.outbound.guard import (
    AddressRefused,
    Network,
    check_url,
    guarded_socket,
    judge_metadata,
    private_judge,
)

PRIVATE = private_judge(())
EVERYTHING: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def words(text: str) -> list[str]:
    """Give the words of a table."""
    return text.split()


SPECIAL = words("""
    0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
    203.0.113.0/24
    224.0.0.0/4 240.0.0.0/4 ::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23
    2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
""")
PUBLIC = words("""
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255
    169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
    223.255.255.255 93.184.216.34 2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2620:4f:8001::1 3ffe:ffff::1
""")
METADATA = words("""
    169.254.169.254 169.254.170.2 169.254.170.23 100.100.100.200 168.63.129.16 192.0.0.192 fd00:ec2::254
    fd20:ce::254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe 2002:a9fe:a9fe:: ::169.254.169.254
""")

# Refused by their spelling, before any name is looked up.
BAD_SPELLING = [
    *words(r"""
    http://127.1/ http://127.0.1/ http://2130706433/ http://0/ http://0177.0.0.1/ http://017700000001/ http://127.0.0.1./
    http://2852039166/ http://169.254.43518/ http://0x7f000001/ http://0x7f.1/ http://0xa9fea9fe/ http://0x/
    http://1.2.3.4.5/ http://pub.test.1/ http://127.0.0.01/ file:///etc/passwd gopher://127.0.0.1/ ftp://127.0.0.1/
    http:///127.0.0.1/ http:127.0.0.1 //127.0.0.1/ 127.0.0.1 http:// http://? http://#a javascript:alert(1)
    http://pub.test\@127.0.0.1/ http://127.0.0.1\@pub.test/ http://user@127.0.0.1/ http://pub.test@127.0.0.1/
    http://:@pub.test/ http://@pub.test/ http://pub.test:80@127.0.0.1:80/ http://1.1.1.1&@127.0.0.1/
    http://127.0.0.1%00.pub.test/ http://127.0.0.1%2f.pub.test/ http://%31%32%37.0.0.1/ http://pub.test%0d%0aX:1/
    http://127.0.0.1#@pub.test/ http://pub.test:22/ http://pub.test:6379@/ http://pub.test:0/ http://pub.test:65536/
    http://pub.test:-1/ http://pub.test:25/ http://pub.test:1023/ http://a..b/ http://.a/
    http://[::1/ http://[v1.a]/
    http://pub.test,a/ http://a*b/ http://pub'test/ http://a!b/
    """),
    "http://127.0.0.1\t/",
    "http://127.0.0.1\n",
    "\nhttp://pub.test/",
    "http://pub.test/\x7f",
    "http://pub.test/a b",
    "http://pub.test\u2028/",
    "http://ex\u202eample.com/",
    "http://exa\u00admple.com/",
    "http://\u2028/",
    "http://" + "a" * 64 + ".test/",
    "http://" + "a." * 127 + "test/",
    "http://pub.test/" + "a" * 2048,
]
# Addresses in all the ways that a URL may spell them.
PRIVATE_LITERALS = [
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/",
    *words("""
    http://127.0.0.1/ http://0.0.0.0/ http://①②⑦.⓪.⓪.①/ http://127。0。0。1/ http://[::1]/ http://[::]/
    http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[0:0:0:0:0:ffff:127.0.0.1]/ http://[::127.0.0.1]/
    http://[::ffff:0:127.0.0.1]/ http://[::1%25lo]/ http://[fe80::1%25eth0]/ http://[fe80::1%eth0]/
    http://[64:ff9b::7f00:1]/ http://[64:ff9b::a9fe:a9fe]/ http://[64:ff9b:1::7f00:1]/ http://[2002:7f00:1::]/ http://[2002:a9fe:a9fe::]/
    http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/ http://[fec0::1]/ http://[fd00:ec2::254]/ http://[fd20:ce::254]/
    http://[100::1]/ http://[3fff::1]/ http://[5f00::1]/ http://[ff02::1]/ http://[2001:db8::1]/
    http://169.254.169.254/latest/meta-data/ http://169.254.170.2/ http://100.100.100.200/ http://168.63.129.16/
    http://192.0.0.192/ http://10.0.0.1:8080/a?b http://192.168.0.1/ https://172.16.0.1/ http://127.0.0.1#@pub.test/
"""),
]
GOOD = words("""
    http://pub.test/ https://pub.test https://pub.test:443/a?b=c#d http://pub.test:1024/ http://pub.test:65535/
    HTTPS://Pub.Test./ http://bücher.example/ http://xn--bcher-kva.example/ http://my_receiver/ http://localhost:9000/
    http://8.8.8.8/ http://[2606:4700:4700::1111]:8443/ http://1.pub.test/ http://0x7f.test/ http://pub.test/%2f@x
""")


@given(network=st.sampled_from(SPECIAL), seed=st.randoms(use_true_random=False))
def test_every_address_of_a_special_block_is_refused(network: str, seed: random.Random) -> None:
    """The first, the last, and any between."""
    block = ipaddress.ip_network(network)

    for address in (block[0], block[-1], block[seed.randrange(block.num_addresses)]):
        assert PRIVATE(str(address)) is not None, address


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    """The neighbours of the blocks too."""
    assert PRIVATE(address) is None


@given(st.ip_addresses(v=6).filter(lambda address: address not in IPv6Network("2000::/3")))
def test_outside_of_the_public_range_of_ipv6_nothing_passes(address: ipaddress.IPv6Address) -> None:
    """Blocks that nobody has given a meaning yet included."""
    assert PRIVATE(str(address)) is not None


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fc00::1"])
def test_an_installation_opens_its_own_networks(address: str) -> None:
    """And no other."""
    assert private_judge((ipaddress.ip_network(address),))(address) is None
    assert private_judge((IPv4Network("192.168.0.0/16"), IPv6Network("fd00::/8")))(address) is not None


@pytest.mark.parametrize("address", METADATA)
def test_metadata_addresses_stay_closed(address: str) -> None:
    """Whatever is opened, in every form, for brokers too."""
    assert private_judge(EVERYTHING)(address) is not None
    assert judge_metadata(address) is not None


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "2130706433", "fe80::1%eth0", "1.2.3.4%eth0", "::1%", "[::1]"]
)
def test_what_is_no_plain_address_is_refused(text: str) -> None:
    """A guard that cannot read an address says no."""
    assert private_judge(EVERYTHING)(text) is not None


@pytest.mark.parametrize("url", GOOD)
def test_good_urls_pass(url: str) -> None:
    """Names are not looked up here, so `localhost` is a name as any."""
    check_url(url, ())


@pytest.mark.parametrize("url", BAD_SPELLING)
def test_a_url_is_refused_by_its_spelling(url: str) -> None:
    """Also where every network is open."""
    with pytest.raises(ValueError, match=r"\.$"):
        check_url(url, () if "127.0.0.1#" in url else EVERYTHING)


@pytest.mark.parametrize("url", PRIVATE_LITERALS)
def test_a_private_address_in_a_url_is_refused(url: str) -> None:
    """However it is written."""
    with pytest.raises(ValueError, match=r"address|percent|interface"):
        check_url(url, ())


def test_an_open_network_lets_a_url_pass() -> None:
    """The one of the address."""
    check_url("http://127.0.0.1:8080/", (IPv4Network("127.0.0.0/8"),))
    check_url("http://[::1]:8080/", (IPv6Network("::1/128"),))
    with pytest.raises(ValueError, match="private address"):
        check_url("http://127.0.0.1:8080/", (IPv4Network("10.0.0.0/8"),))


def test_no_socket_is_made_for_a_refused_address() -> None:
    """The factory raises before there is one."""
    make = guarded_socket(PRIVATE)

    with pytest.raises(AddressRefused, match="private address"):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.1", 80)))
    with make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 80))) as made:
        assert made.family == socket.AF_INET
