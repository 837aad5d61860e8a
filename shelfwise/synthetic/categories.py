"""The category tree of the synthetic catalog: what each leaf sells, in which attributes, at what price."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Axis:
    """One attribute in which variants of a product may differ, with the values it takes as titles write them.

    An empty value is one that titles do not mention (a single bottle has no pack size).
    `is_size` marks the axis that fills the `size` column.
    """

    name: str
    values: tuple[str, ...]
    is_size: bool = False


@dataclass(frozen=True)
class Leaf:
    """One leaf of the category tree and what products in it are made of; `price` is that of a middling variant."""

    path: str
    nouns: tuple[str, ...]
    styles: tuple[str, ...]
    axes: tuple[str, ...]
    price: float
    shape: str

    @property
    def department(self) -> str:
        """Return the root of the category path."""
        return self.path.split(" > ", 1)[0]

    @cached_property
    def attribute_axes(self) -> tuple[Axis, ...]:
        """Return the axes themselves, in the order in which titles name them."""
        return tuple(AXES[name] for name in self.axes)


def _axis(name: str, values: str, is_size: bool = False) -> Axis:
    return Axis(name, tuple(values.split("|")), is_size)


_COLOURS = (
    "Black|White|Silver|Graphite|Navy Blue|Sky Blue|Red|Burgundy|Forest Green|Mint|Rose Gold|Sand|Purple|Orange|Yellow"
)
AXES: dict[str, Axis] = {
    "age": _axis("age", "3 Year|5 Year|8 Year|10 Year|12 Year|15 Year|18 Year|21 Year|25 Year"),
    "spirits_volume": _axis("volume", "50ml|200ml|350ml|500ml|700ml|750ml|1L|1.75L", True),
    "wine_volume": _axis("volume", "187ml|375ml|750ml|1.5L|3L", True),
    "beer_volume": _axis("volume", "250ml|330ml|355ml|440ml|500ml|650ml", True),
    "drink_volume": _axis("volume", "200ml|250ml|330ml|500ml|750ml|1L|1.5L|2L", True),
    "care_volume": _axis("volume", "50ml|75ml|100ml|150ml|200ml|250ml|300ml|400ml|500ml", True),
    "scent_volume": _axis("volume", "30ml|50ml|75ml|100ml|125ml|200ml", True),
    "clean_volume": _axis("volume", "400ml|500ml|750ml|1L|1.5L|2L|3L|5L", True),
    "oil_volume": _axis("volume", "250ml|500ml|750ml|1L|2L|5L", True),
    "paint_volume": _axis("volume", "250ml|750ml|1L|2.5L|5L|10L", True),
    "vintage": _axis("vintage", "|".join(str(year) for year in range(2010, 2025))),
    "grape_red": _axis("grape", "Merlot|Cabernet Sauvignon|Syrah|Malbec|Pinot Noir|Tempranillo|Grenache|Sangiovese"),
    "grape_white": _axis("grape", "Chardonnay|Sauvignon Blanc|Riesling|Pinot Grigio|Chenin Blanc|Viognier|Albariño"),
    "sweetness": _axis("sweetness", "Brut|Extra Brut|Dry|Demi-Sec|Sweet"),
    "pack": _axis("pack", "|4 Pack|6 Pack|8 Pack|12 Pack|24 Pack"),
    "small_pack": _axis("pack", "|2 Pack|3 Pack|4 Pack|6 Pack|10 Pack"),
    "rolls": _axis("count", "4 Pack|6 Pack|9 Pack|12 Pack|16 Pack|24 Pack", True),
    "tablets": _axis("count", "20 Count|30 Count|40 Count|60 Count|90 Count|120 Count", True),
    "bags": _axis("count", "20 Count|25 Count|40 Count|50 Count|80 Count|100 Count", True),
    "weight": _axis("weight", "75g|100g|125g|150g|200g|250g|300g|400g|500g|750g|1kg", True),
    "spice_weight": _axis("weight", "20g|35g|50g|75g|100g|250g", True),
    "bulk_weight": _axis("weight", "500g|1kg|1.5kg|2kg|3kg|5kg|7.5kg|10kg|12kg|15kg", True),
    "fruit": _axis(
        "flavour", "Lemon|Lime|Orange|Raspberry|Mango|Peach|Cherry|Apple|Passion Fruit|Blackcurrant|Grapefruit|Vanilla"
    ),
    "sweet": _axis(
        "flavour", "Dark Chocolate|Milk Chocolate|Hazelnut|Salted Caramel|Almond|Mint|Orange|Coconut|Café Crème"
    ),
    "savoury": _axis(
        "flavour", "Sea Salt|Salt & Vinegar|Paprika|Sour Cream|Barbecue|Jalapeño|Cheese & Onion|Sweet Chilli|Rosemary"
    ),
    "sauce": _axis("flavour", "Basil|Roasted Garlic|Arrabbiata|Mushroom|Four Cheese|Olive|Smoked Pepper|Tomato"),
    "roast": _axis("roast", "Light Roast|Medium Roast|Dark Roast|Espresso Roast|Decaf"),
    "grind": _axis("grind", "Whole Bean|Ground|Filter Ground|Capsules"),
    "tea": _axis("flavour", "Earl Grey|Breakfast|Green|Jasmine|Peppermint|Camomile|Lemon & Ginger|Rooibos|White"),
    "fat": _axis("fat", "Whole|Semi Skimmed|Skimmed|Lactose Free"),
    "meat": _axis("flavour", "Chicken|Beef|Lamb|Salmon|Tuna|Turkey|Duck|Rabbit|Venison"),
    "stage": _axis("life stage", "Puppy|Junior|Adult|Senior"),
    "cat_stage": _axis("life stage", "Kitten|Adult|Senior|Sterilised"),
    "baby_stage": _axis("life stage", "Stage 1|Stage 2|Stage 3|Stage 4"),
    "colour": _axis("colour", _COLOURS),
    "ink": _axis("colour", "Black|Cyan|Magenta|Yellow|Tricolour"),
    "shade": _axis(
        "shade",
        "01 Ivory|02 Porcelain|03 Sand|04 Honey|05 Amber|06 Rosé|07 Coral|08 Plum|09 Scarlet|10 Mocha|11 Nude|12 Berry",
    ),
    "scent": _axis("scent", "Lavender|Ocean Breeze|Citrus|Fresh Linen|Jasmine|Pine|Aloë|Vanilla|Unscented|Cotton"),
    "hair": _axis("hair type", "Dry Hair|Oily Hair|Normal Hair|Coloured Hair|Fine Hair|Curly Hair"),
    "skin": _axis("skin type", "Dry Skin|Oily Skin|Sensitive Skin|Combination Skin|Mature Skin"),
    "spf": _axis("spf", "SPF 15|SPF 20|SPF 30|SPF 50"),
    "strength": _axis("concentration", "Eau de Toilette|Eau de Parfum|Cologne|Parfum"),
    "storage": _axis("storage", "32GB|64GB|128GB|256GB|512GB|1TB"),
    "disk": _axis("storage", "250GB|500GB|1TB|2TB|4TB|8TB"),
    "ram": _axis("memory", "4GB RAM|8GB RAM|16GB RAM|32GB RAM"),
    "screen": _axis("screen", '11.6"|13.3"|14"|15.6"|17.3"', True),
    "tv_screen": _axis("screen", '24"|32"|40"|43"|50"|55"|65"|75"', True),
    "monitor_screen": _axis("screen", '21.5"|24"|27"|32"|34"', True),
    "power": _axis("power", "20W|30W|45W|65W|100W"),
    "appliance_power": _axis("power", "600W|800W|1000W|1500W|2000W|2400W"),
    "bulb_power": _axis("power", "4W|5W|7W|9W|11W|15W"),
    "cap": _axis("fitting", "E27|E14|GU10|B22"),
    "cable": _axis("length", "0.5m|1m|1.5m|2m|3m|5m|10m", True),
    "capacity": _axis("capacity", "5000mAh|10000mAh|15000mAh|20000mAh|26800mAh", True),
    "pan": _axis("diameter", "16cm|20cm|24cm|26cm|28cm|30cm|32cm", True),
    "bed": _axis("bed size", "Single|Double|King|Super King", True),
    "bin": _axis("volume", "10L|20L|30L|50L|70L|100L", True),
    "load": _axis("capacity", "6kg|7kg|8kg|9kg|10kg", True),
    "garment": _axis("garment size", "XS|S|M|L|XL|XXL", True),
    "shoe": _axis("shoe size", "EU 36|EU 37|EU 38|EU 39|EU 40|EU 41|EU 42|EU 43|EU 44|EU 45", True),
    "nappy": _axis("nappy size", "Size 1|Size 2|Size 3|Size 4|Size 5|Size 6", True),
    "pet_size": _axis("pet size", "Small|Medium|Large|Extra Large", True),
    "drill": _axis("voltage", "12V|14.4V|18V|20V|36V"),
    "bit": _axis("diameter", "3mm|4mm|5mm|6mm|8mm|10mm|12mm", True),
    "nib": _axis("nib", "0.3mm|0.5mm|0.7mm|1mm"),
    "paper": _axis("format", "A3|A4|A5|A6", True),
    "age_group": _axis("age group", "Age 1+|Age 3+|Age 5+|Age 8+|Age 12+"),
    "pieces": _axis("pieces", "24 Piece|60 Piece|100 Piece|250 Piece|500 Piece|1000 Piece", True),
    "dose": _axis("strength", "200mg|400mg|500mg|1000mg"),
}

# One leaf in two lines: path ; price ; shape of its pictures ; axes, then nouns ; styles. The order matters: shares of
# the catalog fall from the first leaf to the last (a long tail).
_TREE = """
Drinks > Spirits > Whisky ; 42 ; bottle ; age spirits_volume
    Single Malt Whisky|Blended Whisky|Bourbon Whiskey|Rye Whiskey ; Peated|Sherry Cask|Small Batch|Cask Strength
Electronics > Phones > Smartphones ; 420 ; phone ; storage colour
    Smartphone ; 5G|Dual SIM|Unlocked|SIM Free
Drinks > Wine > Red Wine ; 14 ; bottle ; grape_red vintage wine_volume
    Red Wine ; Estate|Old Vines|Gran Reserva|Organic|Barrel Aged
Grocery > Snacks > Chocolate ; 3.5 ; box ; sweet weight
    Chocolate Bar|Chocolate|Truffles ; Organic|Fairtrade|Vegan|Luxury
Beauty > Hair > Shampoo ; 6.5 ; tube ; hair care_volume
    Shampoo|Conditioner|Shampoo Bar ; Repair|Volume|Hydrating|Anti-Dandruff|Gentle
Household > Cleaning > Laundry ; 9 ; bottle ; scent clean_volume
    Laundry Detergent|Fabric Softener|Washing Liquid ; Bio|Non Bio|Concentrated|Colour
Pet > Dogs > Dry Dog Food ; 28 ; bag ; meat stage bulk_weight
    Dry Dog Food|Dog Kibble ; Grain Free|Complete|Natural|Hypoallergenic
Drinks > Beer > Lager ; 7 ; can ; beer_volume pack
    Lager|Pilsner|Helles ; Premium|Unfiltered|Alcohol Free|Craft
Electronics > Computers > Laptops ; 850 ; screen ; screen ram storage
    Laptop|Notebook ; Gaming|Ultrabook|2-in-1|Business
Grocery > Coffee & Tea > Coffee ; 8 ; bag ; roast grind weight
    Coffee|Arabica Coffee ; Organic|Single Origin|House Blend|Fairtrade
Beauty > Fragrance > Perfume ; 58 ; bottle ; strength scent_volume
    Spray|Natural Spray ; Intense|for Men|for Women|Unisex|Limited
Drinks > Wine > White Wine ; 12 ; bottle ; grape_white vintage wine_volume
    White Wine ; Estate|Late Harvest|Organic|Réserve
Grocery > Snacks > Crisps ; 2.2 ; bag ; savoury weight
    Crisps|Potato Chips|Tortilla Chips ; Hand Cooked|Thick Cut|Lightly|Baked
Electronics > Audio > Headphones ; 95 ; round ; colour
    Headphones|Earbuds|Headset ; Wireless|Noise Cancelling|Bluetooth|Over-Ear|Sports
Household > Kitchen > Pans ; 34 ; round ; pan colour
    Frying Pan|Saucepan|Wok|Casserole ; Non-Stick|Cast Iron|Induction|Stainless Steel
Drinks > Spirits > Vodka ; 22 ; bottle ; fruit spirits_volume
    Vodka ; Triple Distilled|Premium|Wheat|Potato
Drinks > Spirits > Gin ; 28 ; bottle ; fruit spirits_volume
    Gin|London Dry Gin|Pink Gin ; Botanical|Barrel Rested|Navy Strength
Beauty > Make-up > Lipstick ; 12 ; tube ; shade
    Lipstick|Lip Gloss|Lip Tint ; Matte|Satin|Long Lasting|Shine
Electronics > TV & Video > Televisions ; 480 ; screen ; tv_screen
    TV|Smart TV ; 4K UHD|OLED|QLED|Full HD|LED
Pet > Cats > Wet Cat Food ; 7 ; can ; meat cat_stage rolls
    Wet Cat Food|Cat Food in Jelly|Cat Pâté ; Complete|Natural|Gourmet
Household > Paper > Toilet Paper ; 6 ; round ; rolls
    Toilet Paper|Toilet Tissue|Kitchen Roll ; Soft|Recycled|Quilted|3 Ply
Grocery > Pasta & Rice > Pasta ; 2 ; bag ; weight small_pack
    Spaghetti|Penne|Fusilli|Tagliatelle|Linguine ; Durum Wheat|Whole Wheat|Gluten Free|Bronze Cut
Grocery > Sauces > Pasta Sauce ; 3 ; jar ; sauce weight
    Pasta Sauce|Pesto|Sugo ; Organic|Traditional|No Added Sugar
Drinks > Soft Drinks > Lemonade ; 2.5 ; bottle ; fruit drink_volume pack
    Lemonade|Sparkling Drink|Soda ; Zero Sugar|Classic|Light|Cloudy
Electronics > Accessories > Phone Cases ; 16 ; phone ; colour
    Phone Case|Flip Case|Bumper Case ; Slim|Shockproof|Leather|Clear|Magnetic
Electronics > Accessories > Chargers ; 24 ; box ; power colour
    USB-C Charger|Wall Charger|Car Charger|GaN Charger ; Fast|Dual Port|Compact
Electronics > Computers > Storage ; 90 ; box ; disk
    External SSD|Portable Hard Drive|Internal SSD|NVMe SSD ; USB 3.2|Rugged|High Speed
Beauty > Skin > Face Cream ; 18 ; jar ; skin spf care_volume
    Face Cream|Day Cream|Night Cream|Moisturiser ; Anti-Ageing|Hyaluronic|Vitamin C|Firming
Grocery > Coffee & Tea > Tea ; 4 ; box ; tea bags
    Tea Bags|Loose Leaf Tea|Infusion ; Organic|Classic|Fairtrade
Drinks > Spirits > Rum ; 29 ; bottle ; age spirits_volume
    Rum|Spiced Rum|White Rum|Dark Rum ; Solera|Overproof|Gold
Drinks > Beer > Ale ; 9 ; can ; beer_volume pack
    Pale Ale|India Pale Ale|Amber Ale|Brown Ale ; Session|Hazy|Dry Hopped|Double
Clothing > Men > T-Shirts ; 18 ; garment ; colour garment
    T-Shirt|Polo Shirt ; Slim Fit|Organic Cotton|Crew Neck|V-Neck
Clothing > Women > Dresses ; 45 ; garment ; colour garment
    Dress|Midi Dress|Wrap Dress ; Floral|Linen|Long Sleeve|Summer
Shoes > Sports > Running Shoes ; 85 ; shoe ; colour shoe
    Running Shoes|Trainers ; Trail|Cushioned|Lightweight|Road
Household > Light > Bulbs ; 7 ; round ; bulb_power cap small_pack
    LED Bulb|Filament Bulb|Spotlight ; Warm White|Cool White|Dimmable|Daylight
Grocery > Biscuits > Cookies ; 2.6 ; box ; sweet weight
    Cookies|Biscuits|Shortbread|Wafers ; Crunchy|Soft Baked|Gluten Free|All Butter
Health > Vitamins > Multivitamins ; 11 ; jar ; dose tablets
    Multivitamin Tablets|Vitamin C Tablets|Vitamin D Capsules ; High Strength|Effervescent|Vegan
Household > Cleaning > Surface Cleaner ; 4 ; bottle ; scent clean_volume
    All Purpose Cleaner|Kitchen Cleaner|Bathroom Cleaner ; Antibacterial|Eco|Power
Pet > Cats > Cat Litter ; 13 ; bag ; scent bulk_weight
    Cat Litter|Clumping Litter ; Wood|Silica|Low Dust|Bentonite
Baby > Nappies > Nappies ; 14 ; bag ; nappy bags
    Nappies|Nappy Pants ; Ultra Dry|Eco|Night
Electronics > Computers > Monitors ; 230 ; screen ; monitor_screen
    Monitor|Curved Monitor ; 4K|Full HD|144Hz|IPS
Electronics > Wearables > Smartwatches ; 160 ; round ; colour
    Smartwatch|Fitness Tracker ; GPS|Cellular|Heart Rate
Grocery > Oils > Olive Oil ; 11 ; bottle ; oil_volume
    Extra Virgin Olive Oil|Olive Oil ; Cold Pressed|Unfiltered|Organic
Grocery > Breakfast > Cereal ; 3.8 ; box ; fruit weight
    Muesli|Granola|Cornflakes|Porridge Oats ; Crunchy|Organic|No Added Sugar|High Fibre
Beauty > Bath > Shower Gel ; 4 ; tube ; scent care_volume
    Shower Gel|Body Wash|Bath Foam ; Moisturising|Refreshing|Sensitive
Drinks > Wine > Sparkling Wine ; 16 ; bottle ; sweetness wine_volume
    Sparkling Wine|Crémant|Prosecco ; Blanc de Blancs|Cuvée|Rosé
Drinks > Water > Mineral Water ; 1.5 ; bottle ; drink_volume pack
    Mineral Water|Spring Water ; Still|Sparkling|Lightly Sparkling
Garden > Tools > Power Tools ; 110 ; tool ; drill
    Cordless Drill|Impact Driver|Angle Grinder|Jigsaw ; Brushless|Compact|Heavy Duty
Office > Writing > Pens ; 3 ; tool ; ink nib small_pack
    Gel Pen|Ballpoint Pen|Fineliner|Rollerball ; Refillable|Retractable|Quick Dry
Office > Printing > Ink Cartridges ; 26 ; box ; ink
    Ink Cartridge|Toner Cartridge ; High Yield|Compatible|Standard
Toys > Construction > Building Sets ; 32 ; box ; pieces age_group
    Building Set|Building Blocks ; Classic|City|Space|Castle
Household > Bedding > Duvet Covers ; 36 ; box ; bed colour
    Duvet Cover|Fitted Sheet|Duvet Set ; Cotton|Linen|Percale|Striped
Drinks > Spirits > Liqueur ; 19 ; bottle ; fruit spirits_volume
    Liqueur|Cream Liqueur|Bitters ; Herbal|Coffee|Artisan
Beauty > Make-up > Foundation ; 21 ; tube ; shade spf
    Foundation|Concealer|BB Cream ; Matte|Luminous|24h
Household > Appliances > Kettles ; 48 ; device ; appliance_power colour
    Kettle|Toaster|Blender|Coffee Maker ; Cordless|Retro|Digital
Electronics > Accessories > Cables ; 9 ; round ; cable colour
    USB-C Cable|HDMI Cable|Lightning Cable|Ethernet Cable ; Braided|Gold Plated|High Speed
Electronics > Accessories > Power Banks ; 35 ; phone ; capacity colour
    Power Bank ; Slim|Solar|Fast Charge
Pet > Dogs > Dog Treats ; 5 ; bag ; meat pet_size weight
    Dog Treats|Chew Sticks|Dental Chews ; Grain Free|Natural|Training
Household > Candles > Scented Candles ; 15 ; jar ; scent weight
    Scented Candle|Reed Diffuser ; Soy Wax|Luxury|Handmade
Grocery > Spices > Herbs & Spices ; 2.4 ; jar ; spice_weight
    Ground Cumin|Smoked Paprika|Oregano|Black Pepper|Curry Powder ; Organic|Whole|Premium
Grocery > Dairy > Milk Drinks ; 2 ; box ; fat drink_volume small_pack
    UHT Milk|Oat Drink|Almond Drink|Soya Drink ; Barista|Organic|Unsweetened
Grocery > Preserves > Jam ; 3.2 ; jar ; fruit weight
    Jam|Marmalade|Fruit Spread ; Extra|Reduced Sugar|Homemade Style
Drinks > Wine > Rosé Wine ; 11 ; bottle ; vintage wine_volume
    Rosé Wine ; Provençal|Dry|Organic
Drinks > Beer > Stout ; 10 ; can ; beer_volume pack
    Stout|Porter ; Oatmeal|Imperial|Milk|Coffee
Drinks > Cider > Cider ; 6 ; can ; fruit beer_volume pack
    Cider|Pear Cider ; Dry|Medium|Cloudy|Vintage
Baby > Food > Baby Food ; 2 ; bag ; fruit baby_stage small_pack
    Baby Food Pouch|Fruit Purée|Baby Porridge ; Organic|No Added Sugar
Baby > Formula > Infant Milk ; 16 ; jar ; baby_stage weight
    Infant Milk|Follow-On Milk ; Organic|Comfort|Anti-Reflux
Health > First Aid > Plasters ; 4 ; box ; pet_size bags
    Plasters|Wound Dressings ; Waterproof|Sensitive|Fabric
Health > Oral Care > Toothpaste ; 3.5 ; tube ; care_volume small_pack
    Toothpaste|Mouthwash ; Whitening|Sensitive|Enamel|Fresh Mint
Beauty > Sun > Sun Cream ; 13 ; tube ; spf care_volume
    Sun Cream|Sun Spray|After Sun ; Water Resistant|Kids|Sensitive
Beauty > Nails > Nail Polish ; 7 ; bottle ; shade
    Nail Polish|Gel Nail Colour ; Quick Dry|Gel Effect|Matte
Beauty > Deodorant > Deodorant ; 4 ; tube ; scent care_volume
    Deodorant|Antiperspirant|Roll-On ; 48h|Invisible|Men
Clothing > Men > Jeans ; 55 ; garment ; colour garment
    Jeans|Chinos ; Slim Fit|Straight|Stretch|Relaxed
Clothing > Women > Knitwear ; 49 ; garment ; colour garment
    Jumper|Cardigan ; Merino|Cashmere|Chunky|Ribbed
Clothing > Sports > Leggings ; 32 ; garment ; colour garment
    Leggings|Sports Top|Shorts ; High Waist|Compression|Seamless
Shoes > Women > Boots ; 98 ; shoe ; colour shoe
    Ankle Boots|Chelsea Boots ; Leather|Suede|Waterproof
Shoes > Men > Formal Shoes ; 110 ; shoe ; colour shoe
    Oxford Shoes|Loafers|Derby Shoes ; Leather|Suede|Handmade
Sports > Fitness > Dumbbells ; 24 ; round ; bulk_weight colour
    Dumbbell|Kettlebell ; Neoprene|Cast Iron|Rubber
Sports > Camping > Tents ; 120 ; bag ; colour
    Tent|Sleeping Bag|Rucksack ; Ultralight|Waterproof|Family
Sports > Nutrition > Protein Powder ; 34 ; jar ; sweet bulk_weight
    Whey Protein|Vegan Protein|Creatine ; Isolate|Natural|Lean
Garden > Paint > Wall Paint ; 28 ; can ; colour paint_volume
    Emulsion Paint|Gloss Paint|Primer ; Matt|Silk|One Coat|Washable
Garden > Tools > Drill Bits ; 5 ; tool ; bit small_pack
    Drill Bit|Masonry Bit|Wood Bit ; HSS|Titanium|Cobalt
Garden > Plants > Compost ; 8 ; bag ; bin
    Compost|Potting Soil|Fertiliser ; Peat Free|Organic|Universal
Household > Waste > Bin Bags ; 3.5 ; round ; bin bags
    Bin Bags|Pedal Bin Liners ; Tie Handle|Extra Strong|Biodegradable
Household > Appliances > Washing Machines ; 420 ; device ; load colour
    Washing Machine|Tumble Dryer ; Inverter|Freestanding|Integrated
Household > Appliances > Vacuum Cleaners ; 190 ; device ; appliance_power colour
    Vacuum Cleaner|Robot Vacuum|Stick Vacuum ; Bagless|Cordless|Pet
Household > Kitchen > Storage Boxes ; 9 ; box ; drink_volume small_pack
    Food Container|Lunch Box|Storage Jar ; Airtight|Glass|BPA Free
Toys > Puzzles > Jigsaws ; 13 ; box ; pieces
    Jigsaw Puzzle ; Landscape|Animals|Vintage|Maps
Toys > Plush > Soft Toys ; 17 ; round ; pet_size colour
    Teddy Bear|Plush Rabbit|Soft Toy Dog ; Cuddly|Organic|Musical
Toys > Games > Board Games ; 25 ; box ; age_group
    Board Game|Card Game ; Family|Travel|Strategy|Party
Office > Paper > Notebooks ; 7 ; box ; paper colour small_pack
    Notebook|Sketchbook|Notepad ; Ruled|Dotted|Plain|Hardcover
Electronics > Cameras > Cameras ; 540 ; device ; colour
    Mirrorless Camera|Action Camera|Compact Camera ; 4K|Waterproof|Body Only|Kit
Electronics > Audio > Speakers ; 80 ; device ; power colour
    Bluetooth Speaker|Soundbar|Smart Speaker ; Portable|Waterproof|Stereo
Electronics > Computers > Memory Cards ; 19 ; box ; storage
    microSD Card|SD Card|USB Stick ; Class 10|UHS-I|Extreme Speed
Electronics > Computers > Tablets ; 310 ; screen ; storage colour
    Tablet ; WiFi|LTE|Kids
Electronics > Gaming > Controllers ; 58 ; device ; colour
    Game Controller|Gaming Mouse|Gaming Keyboard ; Wireless|RGB|Mechanical
Grocery > Canned > Fish ; 2.8 ; can ; spice_weight small_pack
    Tuna Chunks|Sardines|Mackerel Fillets ; in Brine|in Olive Oil|Smoked
Grocery > Pasta & Rice > Rice ; 4 ; bag ; bulk_weight
    Basmati Rice|Jasmine Rice|Risotto Rice ; Organic|Easy Cook|Wholegrain
Grocery > Baking > Flour ; 2 ; bag ; bulk_weight
    Plain Flour|Bread Flour|Self Raising Flour ; Organic|Stoneground|Wholemeal
Grocery > Honey > Honey ; 6 ; jar ; weight
    Honey|Maple Syrup ; Raw|Set|Acacia|Wildflower
Pet > Fish > Fish Food ; 6 ; jar ; spice_weight
    Fish Flakes|Fish Pellets ; Tropical|Goldfish|Cichlid
Pet > Dogs > Collars ; 14 ; round ; pet_size colour
    Dog Collar|Dog Lead|Dog Harness ; Reflective|Leather|Padded
Pet > Birds > Bird Seed ; 8 ; bag ; bulk_weight
    Wild Bird Seed|Parrot Food ; No Mess|High Energy
Drinks > Spirits > Tequila ; 34 ; bottle ; spirits_volume
    Tequila|Mezcal ; Blanco|Reposado|Añejo
Drinks > Spirits > Brandy ; 46 ; bottle ; age spirits_volume
    Brandy|Cognac|Calvados ; VS|VSOP|XO
Drinks > Soft Drinks > Juice ; 2.4 ; bottle ; fruit drink_volume pack
    Juice|Nectar|Smoothie ; Not from Concentrate|Organic|with Pulp
Drinks > Soft Drinks > Energy Drinks ; 1.8 ; can ; fruit beer_volume pack
    Energy Drink ; Sugar Free|Extra Caffeine|Original
Drinks > Mixers > Tonic Water ; 3 ; bottle ; drink_volume pack
    Tonic Water|Ginger Ale|Ginger Beer ; Light|Premium|Indian
Household > Glassware > Glasses ; 18 ; round ; small_pack
    Whisky Glass|Wine Glass|Beer Glass|Tumbler ; Crystal|Hand Blown|Stemless
"""


def _leaves(tree: str) -> tuple[Leaf, ...]:
    lines = tree.strip().splitlines()
    leaves = []
    for head, words in zip(lines[::2], lines[1::2], strict=True):
        path, price, shape, axes = (part.strip() for part in head.split(" ; "))
        nouns, styles = (tuple(part.strip().split("|")) for part in words.split(" ; "))
        leaves.append(Leaf(path, nouns, styles, tuple(axes.split()), float(price), shape))
    return tuple(leaves)


LEAVES = _leaves(_TREE)

# Categories bought together: from the leaf on the left, complements come from the leaves on the right.
COMPLEMENTS: dict[str, tuple[str, ...]] = {
    "Drinks > Spirits > Whisky": ("Household > Glassware > Glasses", "Grocery > Snacks > Chocolate"),
    "Drinks > Spirits > Gin": ("Drinks > Mixers > Tonic Water", "Household > Glassware > Glasses"),
    "Drinks > Spirits > Vodka": ("Drinks > Soft Drinks > Juice", "Drinks > Mixers > Tonic Water"),
    "Drinks > Spirits > Rum": ("Drinks > Soft Drinks > Lemonade",),
    "Drinks > Beer > Lager": ("Grocery > Snacks > Crisps",),
    "Drinks > Beer > Ale": ("Grocery > Snacks > Crisps",),
    "Drinks > Wine > Red Wine": ("Household > Glassware > Glasses", "Grocery > Snacks > Chocolate"),
    "Grocery > Pasta & Rice > Pasta": ("Grocery > Sauces > Pasta Sauce", "Grocery > Oils > Olive Oil"),
    "Grocery > Coffee & Tea > Coffee": ("Grocery > Biscuits > Cookies", "Grocery > Dairy > Milk Drinks"),
    "Grocery > Coffee & Tea > Tea": ("Grocery > Biscuits > Cookies", "Grocery > Honey > Honey"),
    "Electronics > Phones > Smartphones": (
        "Electronics > Accessories > Phone Cases",
        "Electronics > Accessories > Chargers",
        "Electronics > Computers > Memory Cards",
    ),
    "Electronics > Computers > Laptops": ("Electronics > Computers > Storage", "Electronics > Gaming > Controllers"),
    "Electronics > TV & Video > Televisions": ("Electronics > Audio > Speakers", "Electronics > Accessories > Cables"),
    "Pet > Dogs > Dry Dog Food": ("Pet > Dogs > Dog Treats", "Pet > Dogs > Collars"),
    "Pet > Cats > Wet Cat Food": ("Pet > Cats > Cat Litter",),
    "Beauty > Hair > Shampoo": ("Beauty > Bath > Shower Gel",),
    "Beauty > Make-up > Lipstick": ("Beauty > Make-up > Foundation", "Beauty > Nails > Nail Polish"),
    "Baby > Nappies > Nappies": ("Baby > Food > Baby Food",),
    "Household > Cleaning > Laundry": ("Household > Cleaning > Surface Cleaner",),
    "Household > Kitchen > Pans": ("Grocery > Oils > Olive Oil",),
    "Garden > Tools > Power Tools": ("Garden > Tools > Drill Bits",),
}
