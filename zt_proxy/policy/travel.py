"""How far apart two places are at least, from coordinates or from countries alone.

A country stands for a circle: its middle and a radius in kilometres that reaches about as far as its inhabited parts
do. Two circles that touch are no distance apart, so that nobody is told they travelled because they live near a border.
"""

from math import asin, cos, radians, sin, sqrt

import msgspec

EARTH = 6371.0
"""Mean radius in kilometres."""
ACCURACY = 100.0
"""Kilometres by which coordinates of an address may be wrong at each end; databases call 50 to 200 usual."""


class Spot(msgspec.Struct, frozen=True, array_like=True):
    """As much as is known of where somebody is."""

    country: str | None = None
    """ISO 3166-1 alpha-2."""
    latitude: float | None = None
    longitude: float | None = None
    """Degrees."""


def great_circle(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Kilometres between two points (latitude, longitude in degrees), over the surface; the haversine formula."""
    lat1, lon1, lat2, lon2 = (radians(value) for value in (*one, *other))
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH * asin(min(1.0, sqrt(half)))


def apart(one: Spot, other: Spot) -> float:
    """Kilometres that lie between two places at least; 0 when nobody can say."""
    a, b = _circle(one), _circle(other)
    if a is None or b is None:
        return 0.0
    if one.country is not None and one.country == other.country and not (_exact(one) and _exact(other)):
        return 0.0
    return max(0.0, great_circle(a[:2], b[:2]) - a[2] - b[2])


def _exact(spot: Spot) -> bool:
    return spot.latitude is not None and spot.longitude is not None


def _circle(spot: Spot) -> tuple[float, float, float] | None:
    if spot.latitude is not None and spot.longitude is not None:
        return spot.latitude, spot.longitude, ACCURACY
    return COUNTRIES.get(spot.country) if spot.country is not None else None


_TABLE = """
AD 42.5 1.6 20|AE 24.0 54.0 250|AF 34.0 66.0 600|AG 17.1 -61.8 30|AI 18.2 -63.1 15|AL 41.0 20.0 170|AM 40.2 45.0 170
AO -12.5 18.5 700|AR -38.0 -64.0 1850|AS -14.3 -170.7 80|AT 47.5 14.0 300|AU -25.5 134.5 2100|AW 12.5 -70.0 15
AX 60.2 20.0 50|AZ 40.3 47.7 240|BA 44.2 17.8 170|BB 13.2 -59.5 20|BD 23.8 90.3 370|BE 50.6 4.6 150|BF 12.3 -1.7 430
BG 42.7 25.4 270|BH 26.0 50.5 30|BI -3.4 29.9 130|BJ 9.5 2.3 350|BL 17.9 -62.8 10|BM 32.3 -64.8 20|BN 4.5 114.7 80
BO -16.7 -64.7 800|BQ 12.2 -68.3 450|BR -10.5 -53.0 2400|BS 24.5 -76.5 450|BT 27.4 90.4 160|BW -22.2 23.8 500
BY 53.5 28.0 330|BZ 17.2 -88.7 140|CA 55.0 -96.0 2800|CC -12.2 96.8 20|CD -2.9 23.7 1150|CF 6.6 20.5 650
CG -0.8 15.2 550|CH 46.8 8.2 180|CI 7.6 -5.6 380|CK -20.0 -159.0 700|CL -33.0 -71.0 2300|CM 5.7 12.7 600
CN 35.0 104.0 2400|CO 3.9 -73.1 850|CR 9.9 -84.2 220|CU 21.6 -79.0 600|CV 16.0 -24.0 150|CW 12.2 -69.0 35
CX -10.5 105.6 15|CY 35.0 33.0 120|CZ 49.8 15.3 250|DE 51.1 10.4 430|DJ 11.7 42.6 110|DK 56.0 10.0 250|DM 15.4 -61.4 25
DO 18.9 -70.5 190|DZ 28.2 2.6 1150|EC -1.4 -78.8 400|EE 58.7 25.5 190|EG 26.5 29.9 700|EH 24.2 -13.1 450
ER 15.4 38.8 500|ES 40.2 -3.7 620|ET 8.6 39.6 750|FI 64.5 26.3 600|FJ -17.8 178.0 300|FK -51.8 -59.5 130
FM 7.0 152.0 1400|FO 62.1 -6.9 70|FR 46.6 2.5 560|GA -0.6 11.8 350|GB 54.0 -2.5 600|GD 12.1 -61.7 25|GE 42.2 43.5 280
GF 3.9 -53.2 220|GG 49.5 -2.6 40|GH 7.9 -1.2 370|GI 36.1 -5.3 10|GL 68.0 -45.0 1350|GM 13.4 -15.4 180|GN 10.4 -10.9 420
GP 16.2 -61.5 60|GQ 1.7 10.3 350|GR 39.0 22.9 420|GT 15.7 -90.4 240|GU 13.4 144.8 30|GW 12.0 -15.0 170|GY 4.8 -58.9 420
HK 22.4 114.1 35|HN 14.8 -86.6 300|HR 45.1 16.4 260|HT 18.9 -72.7 160|HU 47.2 19.4 270|ID -2.2 117.3 2600
IE 53.2 -8.1 250|IL 31.5 35.0 230|IM 54.2 -4.5 30|IN 22.9 79.6 1650|IO -7.3 72.4 50|IQ 33.0 43.7 480|IR 32.6 54.3 1100
IS 65.0 -18.6 260|IT 42.8 12.1 620|JE 49.2 -2.1 15|JM 18.2 -77.3 120|JO 31.2 36.8 260|JP 37.0 138.0 1500
KE 0.5 37.8 560|KG 41.5 74.6 450|KH 12.7 104.9 280|KI 0.0 -170.0 2500|KM -11.9 43.7 110|KN 17.3 -62.7 25
KP 40.2 127.2 350|KR 36.4 127.8 300|KW 29.3 47.6 110|KY 19.4 -81.0 120|KZ 48.2 67.3 1500|LA 18.5 103.7 520
LB 33.9 35.9 110|LC 13.9 -61.0 25|LI 47.1 9.5 15|LK 7.6 80.7 230|LR 6.5 -9.3 260|LS -29.6 28.2 130|LT 55.3 23.9 200
LU 49.8 6.1 45|LV 56.9 24.9 230|LY 27.0 18.0 850|MA 31.0 -7.0 750|MC 43.7 7.4 5|MD 47.2 28.5 190|ME 42.8 19.2 100
MF 18.1 -63.1 10|MG -19.4 46.7 800|MH 7.0 169.0 700|MK 41.6 21.7 110|ML 17.3 -3.5 950|MM 21.2 96.5 1050
MN 46.8 103.1 1200|MO 22.2 113.6 10|MP 15.8 145.6 300|MQ 14.7 -61.0 40|MR 20.3 -10.3 700|MS 16.7 -62.2 10
MT 35.9 14.4 25|MU -20.3 57.6 350|MV 3.7 73.2 450|MW -13.2 34.3 450|MX 23.9 -102.5 1600|MY 3.8 109.7 1150
MZ -17.3 35.5 1000|NA -22.1 17.2 750|NC -21.3 165.7 250|NE 17.4 9.4 800|NF -29.0 168.0 10|NG 9.6 8.1 640
NI 12.8 -85.0 280|NL 52.1 5.3 160|NO 65.0 14.0 900|NP 28.2 83.9 450|NR -0.5 166.9 10|NU -19.1 -169.9 15
NZ -41.8 171.5 850|OM 20.6 56.1 500|PA 8.5 -80.1 330|PE -9.2 -74.4 1050|PF -16.0 -146.0 1100|PG -6.5 145.2 750
PH 11.8 122.9 950|PK 29.9 69.3 900|PL 52.1 19.4 370|PM 46.9 -56.3 25|PN -24.4 -128.3 300|PR 18.2 -66.5 100
PS 31.9 35.2 110|PT 39.6 -8.5 300|PW 7.3 134.4 300|PY -23.2 -58.4 520|QA 25.3 51.2 90|RE -21.1 55.5 40|RO 45.9 25.0 380
RS 44.2 20.8 260|RU 60.0 95.0 4000|RW -2.0 29.9 120|SA 24.1 44.5 1100|SB -8.9 159.6 750|SC -4.7 55.5 600
SD 16.0 30.0 950|SE 62.8 16.7 800|SG 1.4 103.8 30|SH -15.9 -5.7 2500|SI 46.1 14.8 130|SJ 78.8 18.4 350|SK 48.7 19.5 220
SL 8.6 -11.8 180|SM 43.9 12.5 10|SN 14.4 -14.5 350|SO 4.8 45.7 850|SR 4.1 -55.9 250|SS 7.3 30.2 600|ST 0.4 6.7 110
SV 13.7 -88.9 140|SX 18.0 -63.1 10|SY 35.0 38.5 400|SZ -26.6 31.5 95|TC 21.8 -71.8 80|TD 15.3 18.6 900|TG 8.5 1.0 300
TH 15.1 101.0 850|TJ 38.5 71.0 400|TK -9.2 -171.8 80|TL -8.8 125.8 170|TM 39.1 59.4 600|TN 34.1 9.6 390
TO -20.4 -174.8 350|TR 39.1 35.2 830|TT 10.5 -61.3 90|TV -7.5 178.5 400|TW 23.8 121.0 220|TZ -6.3 34.8 650
UA 49.0 31.4 720|UG 1.3 32.4 350|US 40.0 -98.0 2600|UY -32.8 -56.0 320|UZ 41.8 63.1 750|VA 41.9 12.5 1|VC 13.2 -61.2 50
VE 7.1 -66.2 750|VG 18.5 -64.5 40|VI 18.0 -64.8 50|VN 16.6 106.3 900|VU -16.2 167.7 450|WF -13.9 -177.3 150
WS -13.8 -172.2 90|XK 42.6 20.9 90|YE 15.9 47.6 600|YT -12.8 45.1 25|ZA -29.0 25.1 900|ZM -13.5 27.8 700
ZW -19.0 29.9 400
"""
"""Rounded: a hundred kilometres decide nothing here. Aleutians, Hawaii, Kaliningrad and overseas departments with a
code of their own are not reached by the circle of their mainland, or are on their own line."""

COUNTRIES: dict[str, tuple[float, float, float]] = {
    code: (float(latitude), float(longitude), float(radius))
    for code, latitude, longitude, radius in (each.split() for each in _TABLE.strip().replace("\n", "|").split("|"))
}
"""ISO 3166-1 alpha-2 (and XK) → latitude, longitude, radius in kilometres."""
