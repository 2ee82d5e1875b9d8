"""Fill the shelves, the way everything happens here: with commands."""

from flask_ecotone import command_bus
from flask_ecotone import query_bus

from .catalogue.messages import AddProduct
from .catalogue.messages import ListProducts

PRODUCTS = (
    AddProduct(
        "forest-floor",
        "Forest Floor",
        "Black tea, 100 g",
        "Malt, oak bark and a little woodsmoke.",
        "A broad-leafed black tea, rested for a month beside toasted oak. Round and"
        " malty at first, then dry leaves, moss and the memory of a fire. Takes milk.",
        "fern",
        price=980,
        stock=24,
    ),
    AddProduct(
        "morning-meadow",
        "Morning Meadow",
        "Green tea, 80 g",
        "Spring green tea with cornflower and dew.",
        "The first picking of the year, steamed within the hour and tossed with"
        " cornflowers. Sweet peas, cut grass, and no bitterness at 75 °C.",
        "cornflower",
        price=860,
        stock=31,
    ),
    AddProduct(
        "hawthorn-honeybush",
        "Hawthorn & Honeybush",
        "Herbal, 120 g",
        "Red berries, soft honey, no caffeine.",
        "Hawthorn berries from the north hedge over a bed of honeybush. Forgiving:"
        " leave it to steep as long as you like, it only gets kinder.",
        "berries",
        price=790,
        stock=18,
    ),
    AddProduct(
        "elderflower-white",
        "Elderflower White",
        "White tea, 50 g",
        "Silver buds layered with fresh elderflower.",
        "White buds and elderflower dried together, night by night, until the one"
        " tastes of the other. We make forty tins a year.",
        "umbel",
        price=1640,
        stock=3,
    ),
    AddProduct(
        "pine-ridge",
        "Pine Ridge",
        "Smoked black tea, 100 g",
        "Resin and embers, for cold evenings.",
        "Dried slowly over pine embers at the top of the hill. Dark, resinous and"
        " surprisingly gentle with a slice of pear.",
        "pine",
        price=1120,
        stock=12,
    ),
    AddProduct(
        "chamomile-dusk",
        "Chamomile Dusk",
        "Herbal, 60 g",
        "Whole chamomile heads and lemon balm.",
        "Nothing but whole flowers and a few leaves of lemon balm, picked when the"
        " sun was already low. Ten minutes under a lid, then early to bed.",
        "daisy",
        price=690,
        stock=40,
    ),
    AddProduct(
        "nettle-mint",
        "Nettle & Mint",
        "Herbal, 80 g",
        "Bright, green and wide awake.",
        "Young nettles for the body and garden mint for the head. Good hot, better"
        " cold, best from a bottle on a long walk.",
        "leaves",
        price=640,
        stock=5,
    ),
    AddProduct(
        "bramble",
        "Bramble",
        "Black tea, 100 g",
        "Ripe blackberry on a strong breakfast tea.",
        "A brisk breakfast tea with blackberries and their fermented leaves. It comes"
        " back when the brambles do.",
        "bramble",
        price=920,
        stock=0,
    ),
    AddProduct(
        "small-pot",
        "The Small Pot",
        "Stoneware, 450 ml",
        "Thrown by hand, glazed the colour of rain.",
        "Two cups, one steady spout, and a lid that stays on when you pour. Each is"
        " thrown in the village, so no two are quite alike.",
        "pot",
        price=3800,
        stock=2,
    ),
)


def seed() -> None:
    """Add the products, unless there are some already."""
    if not query_bus.send(ListProducts()):
        for product in PRODUCTS:
            command_bus.send(product)
