"""Fill the shelves, the way everything happens here: with commands."""

from typing import Annotated

from flask_ecotone import command_bus
from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter
from flask_ecotone import Header
from flask_ecotone import query_bus

from ..catalogue.messages import AddProduct
from ..catalogue.messages import ListProducts
from ..extensions import db
from .shop import SHOPS

HEDGEROW = (
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

RIVERSIDE = (
    AddProduct(
        "millrace",
        "Millrace",
        "Espresso, 250 g",
        "Dark, quick and sure of itself.",
        "The roast that the mill is known for: cocoa and toasted hazelnut, pulled"
        " short. It turns the wheel of a whole morning. Takes milk.",
        "wheel",
        price=1090,
        stock=26,
    ),
    AddProduct(
        "slow-water",
        "Slow Water",
        "Filter, 250 g",
        "Light, clear, and in no hurry.",
        "Roasted just until it sings. Apricot and black tea in the cup, and so clear"
        " that you can see the bottom. Give it four minutes.",
        "wave",
        price=1240,
        stock=19,
    ),
    AddProduct(
        "willow-shade",
        "Willow Shade",
        "Decaf, 250 g",
        "All of the coffee, none of the noise.",
        "Washed with nothing but spring water. Walnut, brown sugar and a quiet evening"
        " under the long branches.",
        "willow",
        price=1180,
        stock=14,
    ),
    AddProduct(
        "silver-run",
        "Silver Run",
        "Filter, 200 g",
        "Bright as a shoal turning in the sun.",
        "A washed coffee from a high valley, all redcurrant and lime. It comes for"
        " three weeks in spring, and we roast what there is.",
        "fish",
        price=1760,
        stock=4,
    ),
    AddProduct(
        "still-pool",
        "Still Pool",
        "Espresso, 250 g",
        "Deep, round and sweet.",
        "A natural coffee that dried on raised beds for a month. Plum jam, rum and a"
        " crema that stands still when you put the cup down.",
        "lily",
        price=1320,
        stock=11,
    ),
    AddProduct(
        "reed-bed",
        "Reed Bed",
        "Filter, 250 g",
        "Malty, soft, good by the potful.",
        "Grain, honey and a little cinnamon. Made for the big pot, for a long table,"
        " and for whoever comes in wet.",
        "reed",
        price=980,
        stock=33,
    ),
    AddProduct(
        "first-boat",
        "First Boat",
        "Green beans, 500 g",
        "Raw beans, to roast at home.",
        "As they came off the boat, for a pan, a wooden spoon and an open window. Sold"
        " out until the next one moors.",
        "bean",
        price=890,
        stock=0,
    ),
    AddProduct(
        "small-pot",
        "The Small Pot",
        "Stoneware, 450 ml",
        "The potter's other glaze: the river in March.",
        "The same pot that Hedgerow sells, from the same wheel in the village, with a"
        " filter cone that sits in its neck. Each shop counts its own.",
        "pot",
        price=3400,
        stock=6,
    ),
)

CATALOGUES = {"hedgerow": HEDGEROW, "riverside": RIVERSIDE}


def seed(shop: str) -> None:
    """Put the first products on the shelves of a shop, unless there are some."""
    tenant = {"tenant": shop}
    if not query_bus.send(ListProducts(), tenant):
        for product in CATALOGUES[shop]:
            command_bus.send(product, tenant)


def set_up(shop: str) -> None:
    """Make a shop out of an empty database."""
    db.metadata.create_all(db.engines[shop])
    seed(shop)


@console_command("shop:open")
def open_shop(shop: Annotated[str, Header("tenant")], writer: ConsoleWriter) -> None:
    """Put the first products on the shelves, unless there are some."""
    seed(shop)
    writer.success(f"{SHOPS[shop].name} is open.")
